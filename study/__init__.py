"""What was run and what it says: records of runs, the report's claims, verdicts, and the batch that runs it all."""
