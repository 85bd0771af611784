from cliper.report.pages.rendering import Section
def section(job, at): return Section("departures","D",{})
