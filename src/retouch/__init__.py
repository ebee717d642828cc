"""retouch: drop an image and a sidecar into a bucket, get the edited image from another.

The package holds everything the six Lambda functions share, the command line, the embedded
engine's glue and the provider simulator. Parts that know AWS live in `retouch.aws`; the one part
that knows the provider's HTTP is `retouch.provider`; everything else is plain data and decisions.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
