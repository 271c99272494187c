"""Warm, isolated processes that run the jobs of the embedded AWS.

``forkserver`` keeps one process with the scientific packages loaded and forks
it for every host of a job; ``isolation`` gives that process its own view of the
machine; ``agent`` is what then happens on a host, from the first download to
the last upload.
"""
