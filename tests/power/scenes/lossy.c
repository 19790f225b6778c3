/* An extension module with the leaks that extension modules have: each function makes one, once a call, and has a
   mended twin, called with give_back true. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

static PyObject *
keep(PyObject *module, PyObject *args)
{
    PyObject *thing;
    int give_back;
    if (!PyArg_ParseTuple(args, "Op", &thing, &give_back))
        return NULL;
    Py_INCREF(thing);
    if (give_back)
        Py_DECREF(thing);
    Py_RETURN_NONE;
}

static PyObject *
give_away(PyObject *module, PyObject *args)
{
    PyObject *thing;
    int own;
    if (!PyArg_ParseTuple(args, "Op", &thing, &own))
        return NULL;
    if (own)
        Py_INCREF(thing);
    Py_DECREF(thing);
    Py_RETURN_NONE;
}

static PyObject *
made(const char *kind, long number)
{
    char text[64];
    snprintf(text, sizeof text, "item %ld of the reply", number);
    if (!strcmp(kind, "str"))
        return PyUnicode_FromString(text);
    if (!strcmp(kind, "bytes"))
        return PyBytes_FromString(text);
    if (!strcmp(kind, "int"))
        return PyLong_FromLongLong(1000000000000LL + number);
    if (!strcmp(kind, "float"))
        return PyFloat_FromDouble(number + 0.5);
    return Py_BuildValue("[l]", number);
}

static PyObject *
make(PyObject *module, PyObject *args)
{
    const char *kind;
    long number;
    int give_back;
    if (!PyArg_ParseTuple(args, "slp", &kind, &number, &give_back))
        return NULL;
    if (!strcmp(kind, "pymem")) {
        void *volatile block = PyMem_Calloc(1, 40);
        if (give_back)
            PyMem_Free(block);
    }
    else if (!strcmp(kind, "malloc")) {
        void *volatile block = calloc(1, 3000);
        if (give_back)
            free(block);
    }
    else {
        PyObject *thing = made(kind, number);
        if (thing == NULL)
            return NULL;
        if (give_back)
            Py_DECREF(thing);
    }
    Py_RETURN_NONE;
}

/* A type made at run time, whose deallocator forgets what its instances owe it. */
typedef struct {
    PyObject_HEAD
} Ghost;

static void
ghost_dealloc(PyObject *self)
{
    ((freefunc)PyType_GetSlot(Py_TYPE(self), Py_tp_free))(self);
}

static PyType_Slot ghost_slots[] = {{Py_tp_dealloc, ghost_dealloc}, {0, NULL}};
static PyType_Spec ghost_spec = {
    "lossy.Ghost", sizeof(Ghost), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, ghost_slots,
};

static int
execute(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&ghost_spec);
    return type == NULL ? -1 : PyModule_AddObject(module, "Ghost", type);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyMethodDef methods[] = {
    {"keep", keep, METH_VARARGS, "Keep a reference, as a function that forgets to give it back."},
    {"give_away", give_away, METH_VARARGS, "Give a reference away that was not owned."},
    {"make", make, METH_VARARGS, "Make something, and forget it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lossy", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_lossy(void)
{
    return PyModuleDef_Init(&definition);
}
