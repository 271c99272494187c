"""The `docker` command of builds: the part of it that the embedded AWS can really carry out."""
