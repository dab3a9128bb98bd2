"""Records → one HTML file: what a run or a sweep did, for people who would rather look than read.

run_page, sweep_page      what is on a page, and the page
facts                     what is known of the points of a sweep, from the journal and the records
scaling, advice, usage, timeline, metrics     figures that follow from it; they read no files and know no HTML
columns, page             how data and text get into a page and nothing in them is taken for markup
pages/, vendor/           the templates; the libraries that are embedded (vendor/VENDORED.md)
"""
