"""Models with most kinds of fields, keys and constraints."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Tag(models.Model):
    name = models.SlugField(unique=True)


class Author(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50, db_index=True)
    email = models.EmailField(null=True)
    born = models.DateField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["name", "email"], name="one_of_each"),
            models.CheckConstraint(condition=~models.Q(name=""), name="has_name"),
        )
        indexes = (models.Index(fields=["-born", "name"]),)


class Book(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    tags = models.ManyToManyField(Tag)
    title = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    details = models.JSONField(default=dict)
    pages = ArrayField(models.IntegerField(), default=list)
    added = models.DateTimeField(auto_now_add=True)
    length = models.DurationField(null=True)
    cover = models.BinaryField(null=True)
    stock = models.PositiveIntegerField(default=0)
