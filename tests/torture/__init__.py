"""Messages nobody sends on purpose, and what each must get (quality.md §2).

Written for this project after the kinds of RFC 4475 and RFC 5118; sections named beside a case are theirs. A case
that is not met is `xfail(strict=True)` with a reason, never commented out.
"""
