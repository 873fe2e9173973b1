"""What is shipped, tried as it is shipped: the Dockerfile's steps, the chart rendered, the wheel installed."""
