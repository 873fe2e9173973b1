"""Record the present format."""

from tests.engine.recorded import main

main()
