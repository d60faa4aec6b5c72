"""The tools of `metaharness.tools` as an MCP server: over stdio, or over HTTP on this machine."""

from mcp_server.server import make_server

__all__ = ["make_server"]
