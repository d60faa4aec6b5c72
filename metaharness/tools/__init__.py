"""What a coding agent works with: typed functions over runs, written once and offered over MCP or any other way.

async with Desk(Settings(root=Path("runs"))) as desk:
for tool in TOOLS: ...
"""

from metaharness.tools.catalogue import TOOLS, Answer, Tool
from metaharness.tools.desk import Call, Desk, Settings
from metaharness.tools.seat import seat_tools, seated

__all__ = ["TOOLS", "Answer", "Call", "Desk", "Settings", "Tool", "seat_tools", "seated"]
