"""`seal`: the test cases of a domain out of the working tree, where an agent with file tools would come across them.

    seal(reference, options, runs=...)     moves them, or completes what was begun
    unseal(reference, options)             brings them back
    export_cases(reference, options, to)   copies them out, for another machine
    import_cases(reference, options, file) takes such a copy in

`seals.py` says what is left in the tree and where the cases go. They are written there and read again before the seal
is put down, and that before the file is removed: killed at any moment nothing is lost, and the same command goes on.

Not guarded: a program with the user's own rights, such as an agent with a shell, can read the cases where they are;
and what the history of a repository, backups, or runs that have opened the test still hold.
"""

from metaharness.sealing.moving import Outcome, export_cases, import_cases, seal, unseal

__all__ = ["Outcome", "export_cases", "import_cases", "seal", "unseal"]
