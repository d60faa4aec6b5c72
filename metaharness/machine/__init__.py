"""What this machine has that sandboxes and the jail both need: interpreters, bubblewrap, processes and their memory."""
