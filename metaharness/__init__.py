"""Search over harness code. Import the submodule you need; nothing is imported eagerly here.

`metaharness.connect` is the door to a model for a harness that runs outside a run; see `metaharness.production`.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from metaharness.production import connect as connect


def __getattr__(name: str) -> object:
    if name == "connect":
        from metaharness.production import connect  # noqa: PLC0415 - `import metaharness` costs nothing

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
