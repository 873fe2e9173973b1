"""SDP without I/O: the text (RFC 8866) and the bargain struck with it (RFC 3264)."""
