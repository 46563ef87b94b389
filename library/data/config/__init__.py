"""What the user wrote about the images: config file, keys and folders, read into a blueprint."""
