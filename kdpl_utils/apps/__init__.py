"""What a user calls: the command line, adapting to a folder of pictures, looking at two models side by side."""
