"""Templates that would run without end, or fill the memory, if nothing held them."""

HOSTILE = {
    "a loop in a loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a loop whose condition is never true": "{% for a in range(99999) if range(99999)|sum < 0 %}{% endfor %}",
    "a text times a number": "{{ 'a' * 10**11 }}",
    "a number times a text": "{{ 10**11 * 'a' }}",
    "a list times a number": "{{ ([0] * 10**10)|length }}",
    "a constant that jinja would fold": "{% if false %}{{ 'a' * 10**11 }}{% endif %}{{ 'b'|center(10**11) }}",
    "a power of powers": "{{ 9**(9**(9**9)) }}",
    "a negative power": "{{ 10 ** -(10**10) }}",
    "a number squared again and again": (
        "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}"
    ),
    "center": "{{ 'a'|center(10**10) }}",
    "indent": "{{ 'a\nb'|indent(10**10) }}",
    "indent by a text": "{% set x = 'a' * 10**6 %}{{ ('b\n' * 10**6)|indent(x) }}",
    "printf": "{{ '%1000000000d' % 5 }}",
    "printf with a precision": "{{ '%.1000000000f'|format(1.5) }}",
    "printf with a star": "{{ '%*d' % (10**9, 5) }}",
    "printf behind a key with brackets": "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}",
    "printf many times": "{% set x = 'a' * 10**6 %}{{ ('%(x)s' * 10**5) % {'x': x} }}",
    "printf of bytes": "{{ '%1000000000d'.encode() % 5 }}",
    "format": '{{ "{:>9999999999}".format(1) }}',
    "format with a width from outside": '{{ "{:>{w}}".format(1, w=10**10) }}',
    "format with a mapping": '{{ "{a:>9999999999}".format_map({"a": 1}) }}',
    "format of safe text": '{{ ("{:>9999999999}"|safe).format(1) }}',
    "format many times": "{% set x = 'a' * 10**6 %}{{ ('{0}' * 10**5).format(x) }}",
    "lipsum": "{{ lipsum(10**9) }}",
    "lipsum of long paragraphs": "{{ lipsum(1, min=10**9, max=10**10) }}",
    "batch": "{{ [1]|batch(10**10, 'x')|list }}",
    "slice": "{{ [1]|slice(10**10, 'x')|list }}",
    "join": "{% set x = 'a' * 10**6 %}{{ range(99999)|join(x) }}",
    "map": "{{ range(99999)|map('center', 10**6)|list }}",
    "a chain of maps": (
        "{% for i in range(99999) %}{{ range(99999)|map('string')|map('upper')|list|length }}{% endfor %}"
    ),
    "wordwrap": "{{ ('a' * 10**7)|wordwrap(1) }}",
    "wordwrap with a long end": "{{ ('a' * 10**5)|wordwrap(1, wrapstring='b' * 10**6) }}",
    "replace": "{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}",
    "replace of nothing": "{{ ('a' * 10**6)|replace('', 'b' * 10**6) }}",
    "the method replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}",
    "the method replace through attr": "{{ (('a' * 10**6)|attr('replace'))('a', 'b' * 10**6) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "zfill": "{{ 'a'.zfill(10**10) }}",
    "expandtabs": "{{ '\t'.expandtabs(10**10) }}",
    "translate": "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}",
    "the method join": "{{ ('a' * 10**6).join(range(99999)|map('string')) }}",
    "bytes of a number": "{{ (1).to_bytes(10**10, 'big') }}",
    "a search from the end": "{{ ('a' * 10**7).rfind('ab' + 'a' * (10**6)) }}",
    "punycode": "{{ ('é' * 10**6).encode('punycode') }}",
    "round": "{{ 5|round(-(10**9)) }}",
    "round up": "{{ 5.5|round(10**9, 'ceil') }}",
    "sort": "{{ ('ab' * 10**6)|sort }}",
    "groupby": "{{ ('ab' * 10**6)|groupby('x') }}",
    "sum of lists": "{% set x = [[1] * 99] * 9999 %}{{ x|sum(start=[])|length }}",
    "xmlattr": "{{ {'a': 'b' * 10**7}|xmlattr }}",
    "urlize": "{{ ('http://a.b ' * 10**6)|urlize }}",
    "JSON with an indent": "{{ [[[1]]]|tojson(indent=10**10) }}",
    "lists of lists": (
        "{% set n = namespace(x=['lol']) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
        "{{ n.x }}"
    ),
    "mappings of mappings": (
        "{% set n = namespace(x={'a': 1}) %}{% for i in range(40) %}{% set n.x = {'a': n.x, 'b': n.x} %}"
        "{% endfor %}{{ n.x|tojson }}"
    ),
    "namespaces of namespaces": (
        "{% set n = namespace(x=namespace(a=1)) %}{% for i in range(40) %}"
        "{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}"
    ),
    "a text joined with itself": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    "a set block of itself": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
        "{% set n.x = y %}{% endfor %}"
    ),
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a block that calls itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "a recursive loop": "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "a recursive loop of two": (
        "{% for a in [1, 2] recursive %}{% if loop.depth < 60 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}"
    ),
    "a long text written often": "{% set x = 'a' * 10**6 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "a long macro written often": (
        "{% macro f() %}" + "a" * 10_000 + "{% endmacro %}"
        "{% macro g() %}{% for i in range(90000) %}{{ f() }}{% endfor %}{% endmacro %}{{ g() }}"
    ),
    "comparisons of long lists": (
        "{% set x = range(99999)|list %}{% set y = range(99999)|list %}"
        + "{% if x == y %}{% endif %}" * 2_000
    ),
    "a long template": "{{ 1 }}" * 100_000,
    "brackets": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "additions": "{{ 1" + " + 1" * 50_000 + " }}",
    "conditions in conditions": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "a number of 5,000 digits": "{{ " + "1" * 5_000 + " }}",
    "a time of any width": "{{ strftime_now('%1000000000d' * 10000) }}",
    "autoescape": "{% autoescape 'a'|center(10**11) %}{% endautoescape %}",
    "an include": "{% include 'a' %}",
    "the way out of the sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "the way out through format": '{{ "{0.__class__.__init__.__globals__}".format(raise_exception) }}',
    "many long lists": "".join("{% set a" + str(i) + " = range(99999)|list %}" for i in range(400)),
    "many copies": "{% set x = range(99999)|list %}"
    + "".join("{% set a" + str(i) + " = x.copy() %}" for i in range(400)),
    "many batches": "".join("{% set a" + str(i) + " = range(99999)|batch(99999)|list %}" for i in range(400)),
    "many slices": "{% set x = 'a' * 10**7 %}"
    + "".join("{% set a" + str(i) + " = x[1:] %}" for i in range(200)),
    "many searches": "{% set x = 'a' * 10**7 %}" + "{% if 'b' in x %}{% endif %}" * 3_000,
    "JSON of JSON": (
        "{% set n = namespace(x='\"') %}{% for i in range(60) %}{% set n.x = n.x|tojson %}{% endfor %}"
    ),
    "escapes of escapes": (
        "{% set n = namespace(x='&') %}{% for i in range(60) %}{% set n.x = n.x|e ~ n.x %}{% endfor %}"
    ),
    "a cycle of many": "{% for i in range(99999) %}{{ loop.cycle(*range(99999)) }}{% endfor %}",
    "the largest of many": "{% for i in range(99999) %}{{ range(99999)|max }}{% endfor %}",
}
