"""What a model may say to take over a page, a notebook or a terminal."""

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    '<img src="https://example.com/x.png" onerror="document.title = 1">',
    "[a link](javascript:alert(1)) <a href='javascript:alert(1)'>b</a>",
    "$\\href{javascript:alert(1)}{x}$ and $$y^2$$ \\(z\\)",
    "\x1b[31mred\x1b[0m \x07 bell",
    "\u202eright to left\u202c",
    "</pre></div></details></main><h1>another page</h1>",
    "<style>* { display: none }</style><svg onload=alert(1)>",
    "![an image](https://example.com/y.png) <https://example.com> [one]: https://example.com",
    "<!-- what follows is hidden <!--[if true]> --!> ]]> </script></style></title></textarea>",
    "<style>@import url(https://example.com/z.css)</style><a style='background:url(https://example.com)'>c</a>",
]
