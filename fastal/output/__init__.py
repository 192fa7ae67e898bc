"""Files that fastal writes: picks, scores, shards; whole or not at all."""
