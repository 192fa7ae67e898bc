"""One tool a module. It has a function for each job that the tool does.

A function takes the job's arrays (`benchmarks.peers.inputs`). It returns the work that is timed,
which returns the answer as arrays by name.
"""
