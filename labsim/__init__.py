"""labsim: a discovery-ISO agent lab, simulator and test harness for hosted control planes on the Agent platform."""

__version__ = "0.1.0"
