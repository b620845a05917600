"""One folder for each study of the papers: its plan, its measures, its files and its figures side by side."""
