"""What knows nothing of the method: shipped files, the disk, threads, optional packages."""
