"""What happens inside a build: the phases of a buildspec, and the `docker` that its commands call.

Runs in the build's own processes: nothing here imports the server, or what takes long to load.
"""

# The variable that names the address which gives a build's task, and takes what its agent reports.
ADDRESS = "EMBEDDED_AWS_BUILD"
