"""Errors that a client may see: one class per SQLSTATE.

The tree (codes are those of PostgreSQL, appendix A of its manual)::

    StreamSQLError
    ├── ProtocolViolation             08P01 · Unavailable 08006
    ├── FeatureNotSupported           0A000
    ├── DataError (class 22)          InvalidDatetime 22007 · DatetimeFieldOverflow 22008 · NumericOutOfRange 22003
    │                                 DivisionByZero 22012
    │                                 InvalidTextRepresentation 22P02 · InvalidBinaryRepresentation 22P03
    │                                 BadCopyFormat 22P04 · InvalidParameterValue 22023
    │                                 CharacterNotInRepertoire 22021 · SubstringError 22011
    │                                 InvalidLogarithmArgument 2201E · InvalidPowerArgument 2201F
    │                                 InvalidBucketCount 2201G · InvalidRegularExpression 2201B
    │                                 InvalidRowCount 2201W · StringDataRightTruncation 22001
    │                                 SequenceLimitExceeded 2200H · InvalidFrameOffset 22013 · InvalidEscapeSequence 22025
    │                                 InvalidNtileArgument 22014 · InvalidSampleArgument 2202H
    ├── IntegrityError (class 23)     NotNullViolation 23502 · UniqueViolation 23505 · CheckViolation 23514
    │                                 ForeignKeyViolation 23503 · RestrictViolation 23001
    ├── GeneratedAlways 428C9 · InvalidForeignKey 42830
    ├── InvalidCursorName 34000 · InvalidCursorDefinition 42P11 · InvalidStatementName 26000
    ├── ActiveTransaction 25001 · NoActiveTransaction 25P01 · IdleInTransaction 25P03 · InFailedTransaction 25P02
    ├── ReadOnlyTransaction 25006 · InvalidSavepoint 3B001 · SerializationFailure 40001
    ├── AuthorizationError 28000 · InvalidPassword 28P01 · UndefinedDatabase 3D000 · InvalidSchemaName 3F000
    ├── SQLSyntaxError                42601
    ├── Undefined... (class 42)       UndefinedTable 42P01 · UndefinedColumn 42703 · UndefinedFunction 42883
    │                                 UndefinedObject 42704 · UndefinedParameter 42P02 · AmbiguousFunction 42725
    ├── Duplicate... (class 42)       DuplicateTable 42P07 · DuplicateColumn 42701 · DuplicateSchema 42P06
    │                                 DuplicateStatement 42P05 · DuplicateCursor 42P03
    │                                 DuplicateAlias 42712 · DuplicateObject 42710
    ├── WindowingError 42P20 · CannotCoerce 42846 · InvalidRecursion 42P19
    ├── GroupingError 42803 · DatatypeMismatch 42804 · AmbiguousColumn 42702 · WrongObjectType 42809
    ├── IndeterminateDatatype 42P18
    ├── InvalidColumnReference 42P10 · CardinalityViolation 21000
    ├── NotInPrerequisiteState 55000
    ├── InvalidTableDefinition 42P16 · InvalidObjectDefinition 42P17 · InsufficientPrivilege 42501 · DependentObjectsExist 2BP01
    ├── ObjectInUse 55006 · ReservedName 42939 · InvalidGrantOperation 0LP01 · InvalidRoleSpecification 0P000
    ├── Limits (classes 53, 54)       ProgramLimitExceeded 54000 · TooManyConnections 53300 · OutOfMemory 53200
    │                                 DiskFull 53100 · SubscriptionTooSlow 53400
    ├── Unavailable 08006 · ExternalError 58000
    ├── QueryCanceled 57014 · AdminShutdown 57P01 · CannotConnectNow 57P03 · IdleSession 57P05
    └── InternalError                 XX000 · DataCorrupted XX001

Message: lower case, no full stop. Detail: what was seen. Hint: what to do. Position: 1-based character index into the
text that the client sent. `About` names what the error is about, for those errors whose text PostgreSQL does not want parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class About:
    """What an error is about, by name: fields that clients read instead of the message's text."""

    schema: str | None = None
    table: str | None = None
    column: str | None = None
    data_type: str | None = None
    constraint: str | None = None

    def fields(self) -> dict[str, str]:
        """Give the fields of an ErrorResponse."""
        letters = {"s": self.schema, "t": self.table, "c": self.column, "d": self.data_type, "n": self.constraint}
        return {letter: name for letter, name in letters.items() if name is not None}


class StreamSQLError(Exception):
    """An error with the fields of a Postgres ErrorResponse.

    Raise a subclass; the server shows every field to the client and the session stays usable.
    """

    sqlstate: ClassVar[str] = "XX000"

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        context: str | None = None,
        severity: str = "ERROR",
        about: About | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.context = context
        self.severity = severity
        self.about = about

    def fields(self) -> dict[str, str]:
        """Give the ErrorResponse fields by their one-letter codes (protocol, "Error and Notice Message Fields")."""
        found = {"S": self.severity, "V": self.severity, "C": self.sqlstate, "M": self.message}
        if self.detail is not None:
            found["D"] = self.detail
        if self.hint is not None:
            found["H"] = self.hint
        if self.position is not None:
            found["P"] = str(self.position)
        if self.context is not None:
            found["W"] = self.context
        return found if self.about is None else found | self.about.fields()


class ProtocolViolation(StreamSQLError):
    sqlstate = "08P01"


class Unavailable(StreamSQLError):
    """What a connector talks to cannot be reached now; it is tried again, and not before `after_seconds` if it said so."""

    sqlstate = "08006"
    after_seconds: float | None = None


class ExternalError(StreamSQLError):
    """What a connector talks to refuses, and will again: a person has to look at it."""

    sqlstate = "58000"


class FeatureNotSupported(StreamSQLError):
    sqlstate = "0A000"


class DataError(StreamSQLError):
    sqlstate = "22000"


class InvalidDatetime(DataError):
    sqlstate = "22007"


class DatetimeFieldOverflow(DataError):
    sqlstate = "22008"


class NumericOutOfRange(DataError):
    sqlstate = "22003"


class BadRecord(DataError):
    """A record of a source cannot be read, and its stream is to stop at it."""


class StringDataRightTruncation(DataError):
    sqlstate = "22001"


class SequenceLimitExceeded(DataError):
    sqlstate = "2200H"


class DivisionByZero(DataError):
    sqlstate = "22012"


class CharacterNotInRepertoire(DataError):
    sqlstate = "22021"


class InvalidParameterValue(DataError):
    sqlstate = "22023"


class InvalidTextRepresentation(DataError):
    sqlstate = "22P02"


class InvalidBinaryRepresentation(DataError):
    sqlstate = "22P03"


class SubstringError(DataError):
    sqlstate = "22011"


class InvalidLogarithmArgument(DataError):
    sqlstate = "2201E"


class InvalidPowerArgument(DataError):
    sqlstate = "2201F"


class InvalidBucketCount(DataError):
    sqlstate = "2201G"


class InvalidEscapeSequence(DataError):
    sqlstate = "22025"


class InvalidFrameOffset(DataError):
    sqlstate = "22013"


class InvalidNtileArgument(DataError):
    sqlstate = "22014"


class InvalidSampleArgument(DataError):
    sqlstate = "2202H"


class InvalidRegularExpression(DataError):
    sqlstate = "2201B"


class BadCopyFormat(DataError):
    sqlstate = "22P04"


class IntegrityError(StreamSQLError):
    sqlstate = "23000"


class NotNullViolation(IntegrityError):
    sqlstate = "23502"


class UniqueViolation(IntegrityError):
    sqlstate = "23505"


class CheckViolation(IntegrityError):
    sqlstate = "23514"


class ForeignKeyViolation(IntegrityError):
    sqlstate = "23503"


class RestrictViolation(IntegrityError):
    sqlstate = "23001"


class GeneratedAlways(StreamSQLError):
    sqlstate = "428C9"


class InvalidForeignKey(StreamSQLError):
    sqlstate = "42830"


class ActiveTransaction(StreamSQLError):
    sqlstate = "25001"


class NoActiveTransaction(StreamSQLError):
    sqlstate = "25P01"


class DeadlockDetected(StreamSQLError):
    sqlstate = "40P01"


class LockNotAvailable(StreamSQLError):
    sqlstate = "55P03"


class SerializationFailure(StreamSQLError):
    sqlstate = "40001"


class ReadOnlyTransaction(StreamSQLError):
    sqlstate = "25006"


class IdleInTransaction(StreamSQLError):
    sqlstate = "25P03"


class InFailedTransaction(StreamSQLError):
    sqlstate = "25P02"


class InvalidStatementName(StreamSQLError):
    sqlstate = "26000"


class AuthorizationError(StreamSQLError):
    sqlstate = "28000"


class InvalidPassword(StreamSQLError):
    sqlstate = "28P01"


class InvalidSavepoint(StreamSQLError):
    sqlstate = "3B001"


class DependentObjectsExist(StreamSQLError):
    sqlstate = "2BP01"


class InvalidCursorName(StreamSQLError):
    sqlstate = "34000"


class UndefinedDatabase(StreamSQLError):
    sqlstate = "3D000"


class InvalidSchemaName(StreamSQLError):
    sqlstate = "3F000"


class InsufficientPrivilege(StreamSQLError):
    sqlstate = "42501"


class SQLSyntaxError(StreamSQLError):
    sqlstate = "42601"


class DuplicateColumn(StreamSQLError):
    sqlstate = "42701"


class AmbiguousColumn(StreamSQLError):
    sqlstate = "42702"


class UndefinedColumn(StreamSQLError):
    sqlstate = "42703"


class UndefinedObject(StreamSQLError):
    sqlstate = "42704"


class DuplicateObject(StreamSQLError):
    sqlstate = "42710"


class DuplicateAlias(StreamSQLError):
    sqlstate = "42712"


class InvalidColumnReference(StreamSQLError):
    sqlstate = "42P10"


class CardinalityViolation(StreamSQLError):
    sqlstate = "21000"


class WindowingError(StreamSQLError):
    sqlstate = "42P20"


class CannotCoerce(StreamSQLError):
    sqlstate = "42846"


class InvalidRowCount(DataError):
    sqlstate = "2201W"


class InvalidOffset(DataError):
    sqlstate = "2201X"


class GroupingError(StreamSQLError):
    sqlstate = "42803"


class DatatypeMismatch(StreamSQLError):
    sqlstate = "42804"


class WrongObjectType(StreamSQLError):
    sqlstate = "42809"


class AmbiguousFunction(StreamSQLError):
    sqlstate = "42725"


class InvalidRecursion(StreamSQLError):
    sqlstate = "42P19"


class UndefinedFunction(StreamSQLError):
    sqlstate = "42883"


class UndefinedTable(StreamSQLError):
    sqlstate = "42P01"


class UndefinedParameter(StreamSQLError):
    sqlstate = "42P02"


class DuplicateCursor(StreamSQLError):
    sqlstate = "42P03"


class DuplicateStatement(StreamSQLError):
    sqlstate = "42P05"


class DuplicateSchema(StreamSQLError):
    sqlstate = "42P06"


class DuplicateTable(StreamSQLError):
    sqlstate = "42P07"


class IndeterminateDatatype(StreamSQLError):
    sqlstate = "42P18"


class InvalidCursorDefinition(StreamSQLError):
    sqlstate = "42P11"


class InvalidTableDefinition(StreamSQLError):
    sqlstate = "42P16"


class InvalidObjectDefinition(StreamSQLError):
    sqlstate = "42P17"


class DiskFull(StreamSQLError):
    sqlstate = "53100"


class OutOfMemory(StreamSQLError):
    sqlstate = "53200"


class TooManyConnections(StreamSQLError):
    sqlstate = "53300"


class SubscriptionTooSlow(StreamSQLError):
    sqlstate = "53400"


class ProgramLimitExceeded(StreamSQLError):
    sqlstate = "54000"


class ReservedName(StreamSQLError):
    sqlstate = "42939"


class InvalidGrantOperation(StreamSQLError):
    sqlstate = "0LP01"


class InvalidRoleSpecification(StreamSQLError):
    sqlstate = "0P000"


class ObjectInUse(StreamSQLError):
    sqlstate = "55006"


class NotInPrerequisiteState(StreamSQLError):
    sqlstate = "55000"


class QueryCanceled(StreamSQLError):
    sqlstate = "57014"


class AdminShutdown(StreamSQLError):
    sqlstate = "57P01"


class CannotConnectNow(StreamSQLError):
    sqlstate = "57P03"


class IdleSession(StreamSQLError):
    sqlstate = "57P05"


class DataCorrupted(StreamSQLError):
    """What was promised to be there is not there any more."""

    sqlstate = "XX001"


class InternalError(StreamSQLError):
    sqlstate = "XX000"
