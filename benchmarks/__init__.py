"""What streamsql costs, each figure beside what the same machine could do at best, measured in the same run."""
