"""A model behind HTTP, on Ray Serve: ``bisieve serve``.

bytes ──score_request, pooling_request──▶ Question ──application──▶ Judge in a replica ──answers──▶ bytes
"""
