"""Visual Object Networks: geometry, projection, networks, training, synthesis and scores."""
