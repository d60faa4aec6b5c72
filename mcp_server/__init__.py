"""The tools of `metaharness.tools` as an MCP server: over stdio, over HTTP on this machine, or over one stream."""

from mcp_server.server import make_server
from mcp_server.serving import serve_stream

__all__ = ["make_server", "serve_stream"]
