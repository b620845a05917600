"""Output for people: figures and their tables, pages, videos."""
