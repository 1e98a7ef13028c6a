"""Networks: each module is one, and names its class in `PLUGIN`."""
