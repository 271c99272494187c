"""Warm, isolated processes that run the jobs, the containers and the EC2 instances of the embedded AWS.

``forkserver`` keeps one process with the scientific packages loaded and forks
another for every host; ``isolation`` gives that process its own view of the
machine. ``agent`` is what then happens there: ``host`` starts, watches, logs and
ends a program, whatever it is, and ``job``, ``container`` and ``instance`` are the
wrappings around it. The server's end of each host is in ``containers``.
"""
