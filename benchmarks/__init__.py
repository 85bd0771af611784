"""What is measured against a plain way of doing the same; run by hand, no part of the package."""
