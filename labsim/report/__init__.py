"""What a run leaves behind: one directory, JUnit, and a judgement that can be made again without the lab."""
