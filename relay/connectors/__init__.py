"""One ERP dialect per file: translation only. Retries, limits and storage belong to others."""
