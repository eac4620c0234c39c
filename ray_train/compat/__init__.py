"""All uses of private APIs of Ray and DeepSpeed, each with its reason and the version it was written for."""
