"""For people to look at: figures and their tables, pages, videos."""
