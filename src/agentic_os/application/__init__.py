"""One module for each thing that the system does, and the ports that it does it through."""
