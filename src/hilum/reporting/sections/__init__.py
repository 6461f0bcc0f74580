"""The chapters of report.html: a module each, found by its file name.

A module declares `TITLE`, the heading; `ORDER`, its place among the chapters; and
`section(context)`, which returns the content, preferably a frozen dataclass, or None to leave the
chapter out. The template reads the content as `section`: it is the constant `TEMPLATE`, else
`resources/report/NAME.html.j2`. NAME is the module's file name, and the chapter's id in the page.

Text of the data is shown under the names that may leave the run's folder
(`hilum.privacy.release`), except in the fields that an optional constant `VERBATIM` names.

A module whose name starts with an underscore is no chapter: it is shared by several.
"""
