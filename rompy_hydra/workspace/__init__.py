"""The directory of one run: its layout, its rendered files, its inputs."""
