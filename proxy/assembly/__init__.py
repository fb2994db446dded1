"""The parts of the program, made from settings; shared by the server and the commands."""
