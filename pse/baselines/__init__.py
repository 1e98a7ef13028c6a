"""What the papers compare against and is no network: dictionaries, grouping by ear, and masks that know the sources."""
