"""Messages nobody sends on purpose, and what each must get (quality.md §2).

The messages of RFC 4475 and RFC 5118, whole, with a table of expectations for each RFC (README.md says where they are
from); and messages written for this project after their kinds, where sections named beside a case are theirs. A case
that is not met is `xfail(strict=True)` with a reason, never commented out.
"""
