"""Commands about machines: `cluster` starts a described cluster, and `doctor` checks this machine."""
