"""What a Django project does: migrations, queries, transactions, fixtures, flush. Ends with status 0 if all is right."""

import datetime as dt
import sys
from decimal import Decimal

import django
from django.core.management import call_command

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.postgres.aggregates import ArrayAgg  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Avg, Count, Exists, F, OuterRef, Subquery, Sum, Window  # noqa: E402
from django.db.models.functions import RowNumber, TruncMonth  # noqa: E402

from tests.clients.django_shop.models import Author, Book, Tag  # noqa: E402


def check(found: object, expected: object) -> None:
    assert found == expected, (found, expected)


def fill() -> None:
    authors = [
        Author.objects.create(name=name, email=f"{name}@x.y", born=dt.date(1980 + i, 1, 1))
        for i, name in enumerate(["ann", "bob", "cid"])
    ]
    tags = Tag.objects.bulk_create([Tag(name=name) for name in "xyz"])
    for i in range(9):
        book = Book.objects.create(
            author=authors[i % 3],
            title=f"T{i}",
            price=Decimal("9.99") + i,
            details={"a": i, "b": {"c": [1, 2, i]}},
            pages=[i, i + 1],
            length=dt.timedelta(hours=i),
            cover=b"\x00\x01",
        )
        book.tags.set(tags[: i % 3 + 1])


def read() -> None:
    check(Book.objects.get(title="T1").pages, [1, 2])
    check(bytes(Book.objects.get(title="T1").cover), b"\x00\x01")
    titles = Book.objects.order_by("title").values_list("title", flat=True)
    check(list(titles.filter(author__name__icontains="AN")), ["T0", "T3", "T6"])
    check(list(titles.filter(details__b__c__2=3)), ["T3"])
    check(list(titles.filter(details__contains={"a": 2})), ["T2"])
    check(titles.filter(details__has_any_keys=["a", "q"]).count(), 9)
    check(list(titles.filter(pages__contains=[3])), ["T2", "T3"])
    check(list(titles.filter(pages__overlap=[3, 9])), ["T2", "T3", "T8"])
    check(list(titles.filter(length__gt=dt.timedelta(hours=6))), ["T7", "T8"])
    check([len(a.books.all()) for a in Author.objects.prefetch_related("books__tags")], [3, 3, 3])
    sums = Author.objects.annotate(n=Count("books"), s=Sum("books__price"), m=Avg("books__stock")).order_by("name")
    check(sums.values_list("name", "n", "s", "m")[0], ("ann", 3, Decimal("38.97"), 0.0))
    months = Book.objects.annotate(month=TruncMonth("added")).values("month").annotate(n=Count("id"))
    check([row["n"] for row in months], [9])
    last = Book.objects.filter(author=OuterRef("pk")).order_by("-id").values("title")[:1]
    check(
        list(Author.objects.annotate(t=Subquery(last)).order_by("name").values_list("t", flat=True)), ["T6", "T7", "T8"]
    )
    dear = Book.objects.filter(author=OuterRef("pk"), price__gt=17)
    check(Author.objects.filter(Exists(dear)).count(), 1)
    rank = Window(RowNumber(), partition_by=F("author"), order_by=F("price").desc())
    check(sorted(Book.objects.annotate(r=rank).filter(r=1).values_list("title", flat=True)), ["T6", "T7", "T8"])
    listed = Author.objects.annotate(t=ArrayAgg("books__title", ordering="books__title")).order_by("name")
    check(listed.values_list("t", flat=True)[0], ["T0", "T3", "T6"])
    check(len(list(Book.objects.iterator(chunk_size=2))), 9)


def write() -> None:
    check(Book.objects.filter(stock=0).update(stock=F("stock") + 5), 9)
    check(Tag.objects.get_or_create(name="w")[1], True)
    Tag.objects.bulk_create([Tag(name="x"), Tag(name="n")], ignore_conflicts=True)
    upserted = {"update_conflicts": True, "unique_fields": ["name"], "update_fields": ["name"]}
    Tag.objects.bulk_create([Tag(name="x"), Tag(name="m")], **upserted)
    books = list(Book.objects.all())
    for book in books:
        book.details, book.pages = {"z": 1}, [7]
    check(Book.objects.bulk_update(books, ["details", "pages"]), 9)
    with transaction.atomic():
        Tag.objects.create(name="t1")
        try:
            with transaction.atomic():
                Tag.objects.create(name="x")
        except IntegrityError:
            Tag.objects.create(name="t2")
    check(Tag.objects.filter(name__startswith="t").count(), 2)
    with transaction.atomic():
        check(Tag.objects.select_for_update().get(name="x").name, "x")
    try:
        Author.objects.create(name="")
    except IntegrityError as error:
        check("has_name" in str(error), True)
    check(Author.objects.filter(name="bob").delete()[0], 10)


def keep(path: str) -> None:
    call_command("dumpdata", "django_shop", output=path, verbosity=0)
    rows = Book.objects.count()
    call_command("flush", interactive=False, verbosity=0)
    check(Book.objects.count(), 0)
    call_command("loaddata", path, verbosity=0)  # books come before their authors, and sequences are set behind them
    check(Book.objects.count(), rows)
    check(Tag.objects.create(name="after").id, max(Tag.objects.values_list("id", flat=True)))
    check(User.objects.create_superuser("root", "r@x.y", "pw").check_password("pw"), True)
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "django_shop_author")
    check({"one_of_each", "has_name"} <= found.keys(), True)


if __name__ == "__main__":
    call_command("migrate", run_syncdb=True, verbosity=0)
    fill()
    read()
    write()
    keep(sys.argv[1])
