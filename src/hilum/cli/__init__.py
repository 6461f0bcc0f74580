"""The command line: each verb parses, calls one function of a package, and prints.

Nothing is decided here, and nothing is imported here: how a command ends (`exit_status`) is settled
before its verbs are loaded (`verbs`).
"""
