"""What changes values before they leave: noise on rows, flipped labels, projection and dropout."""
