"""Every use of a private API of Ray and DeepSpeed, with the version it is for and why."""
