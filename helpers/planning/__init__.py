"""What a commit's experiment means: its checked settings, its variants, its jobs, and what they cost.

Pure code, without calls of AWS. Functions carry it as the package ``planning``,
notebooks import it as ``helpers.planning``; so imports inside are relative.
"""
