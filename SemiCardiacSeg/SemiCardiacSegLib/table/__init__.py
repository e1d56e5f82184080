"""The table of cases: what stands in it, what is wrong with it, and its way into a job."""
