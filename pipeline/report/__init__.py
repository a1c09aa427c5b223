"""What a run tells people: the table at its end, its progress, and a page that is one file."""
