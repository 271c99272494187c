"""Warm, isolated processes that run the jobs and the EC2 instances of the embedded AWS.

``forkserver`` keeps one process with the scientific packages loaded and forks
another for every host; ``isolation`` gives that process its own view of the
machine; ``agent`` is what then happens on a host of a job, from the first
download to the last upload, and ``instance`` what happens in an instance.
"""
