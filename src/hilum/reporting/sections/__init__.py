"""The chapters of report.html: a module each, found by its file name.

A module declares `TITLE`, the heading; `ORDER`, its place among the chapters; optionally `TEMPLATE`,
a Jinja template in which `section` is the content (else `resources/report/NAME.html.j2` is it); and
`section(context) -> content | None`, where content is anything that the template reads, preferably
a frozen dataclass, and None leaves the chapter out. NAME is the module's file name, and the
chapter's id in the page. A field named in the optional `VERBATIM` is shown as it is; all other text
is passed on under the names that may leave the run's folder (`hilum.privacy.release`).

A module whose name starts with an underscore is no chapter: it is shared by several.
"""
