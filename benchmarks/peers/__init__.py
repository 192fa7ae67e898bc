"""fastal beside the tools that people use, each doing the same job on the same data.

`python -m benchmarks.peers` measures; `python -m benchmarks.peers.page` writes docs/peers.md.
"""
