"""What tests of several packages share: corpora, checkpoints, servers, runs, and how they are looked at."""
